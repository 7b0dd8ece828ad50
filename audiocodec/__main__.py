"""`python -m audiocodec`: the same as the command `codec`."""

from audiocodec.cli import main

raise SystemExit(main())
