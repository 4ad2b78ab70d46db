"""deploy/: what it says is what the programs that read it then do."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
