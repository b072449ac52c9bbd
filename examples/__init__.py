"""Another team's application, which leaves to Recado what must not get lost or takes long.

`bin/dev --examples` runs it beside the service; README.md here says what to look at.
"""
