"""Look up every version that constraints.txt pins in PyPI's advisories, by pip-audit.

Exit codes: 0, nothing is known against any of them; 1, something is, and it is named; 2, they could not be looked up,
which is no pass: only whoever runs this without a way out may take it for one.
"""

# ruff: noqa: S603, T201 - our own command, and a script speaks on its standard output

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"


def main() -> int:
    options = ["--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off"]
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(CONSTRAINTS), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        found = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        print(done.stderr.strip().rpartition("\n")[2])
        print("No version was looked up: pip-audit could not do its work. Run this where PyPI can be reached.")
        return 2
    bad = [(entry["name"], entry["version"], flaw) for entry in found for flaw in entry.get("vulns", ())]
    for name, version, flaw in bad:
        print(f"{name} {version}: {flaw['id']}; mended in {', '.join(flaw['fix_versions']) or 'no version yet'}")
    unknown = [entry["name"] for entry in found if "skip_reason" in entry]
    if unknown:
        print(f"{len(unknown)} of {len(found)} versions could not be looked up, {unknown[0]} among them.")
    print(f"{len(bad)} advisories against {len(found) - len(unknown)} versions that were looked up.")
    if bad:
        return 1
    return 2 if unknown or not found else 0


if __name__ == "__main__":
    sys.exit(main())
