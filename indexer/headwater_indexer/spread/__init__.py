"""An index searched by the actors of a Ray cluster, each of which holds some of its rows."""
