"""Everything on one machine, for development: what `bin/dev` starts, watches and ends."""
