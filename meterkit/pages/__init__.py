"""Pages that the middleware serves itself: the customer's, as HTML and JSON, and the team's."""
