"""benchmarks/fuzz.py on its kept corpus, briefly; and that it finds what it is there to find."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "fuzz.py"
CORPUS = Path(__file__).with_name("corpus")


def test_the_corpus_and_some_mutants_of_it_neither_crash_nor_hang_nor_swell_the_decoder(tmp_path: Path) -> None:
    command = [sys.executable, SCRIPT, "--cases", "400", "--seed", "7", "--findings", tmp_path]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("400 cases")
    assert " decoded" in done.stdout
    assert "refused: damaged" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_case_that_takes_too_long_or_too_much_memory_or_kills_the_process_is_found(tmp_path: Path) -> None:
    for name in ("png-bomb", "jpeg-rgb", "png-rgb"):
        (tmp_path / name).write_bytes((CORPUS / name).read_bytes())
    code = """if True:
        import sys
        from pathlib import Path
        sys.path.insert(0, sys.argv[1])
        import fuzz
        def findings():
            return list(fuzz.fuzz(0, lambda run: False, Path(sys.argv[2])).findings)
        if __name__ == "__main__":
            assert findings() == []
            fuzz.MOST_MEMORY = 2**20
            assert len(findings()) == 1 and "MiB of memory" in findings()[0], findings()
            fuzz.MOST_MEMORY, fuzz.MOST_SECONDS = 2**30, 0.0
            assert findings() == ["finding: over 0 s"], findings()
            child = fuzz.Child()
            child._process.kill()
            assert child.decode(b"")[0] == "finding: the process died with -9"
            assert child.decode(b"")[0] == "refused: type"
            child.close()
    """
    done = subprocess.run(
        [sys.executable, "-c", code, str(SCRIPT.parent), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_corpus_is_small_enough_to_keep() -> None:
    assert sum(path.stat().st_size for path in CORPUS.iterdir()) < 300_000
