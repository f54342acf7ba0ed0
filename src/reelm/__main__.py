"""`python -m reelm`, the command line; `accelerate launch -m reelm` starts it in many processes."""

from reelm.cli import main

main()
