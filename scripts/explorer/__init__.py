"""A local page for playing an episode by hand: `session` plays, `page` makes the HTML, `server` answers requests."""
