"""What the operator refuses: one policy for prompts, references and pictures, one kind of verdict (docs/safety.md)."""

from limner.safety.policy import Policy, Stage, Verdict

__all__ = ["Policy", "Stage", "Verdict"]
