"""An index searched by replicas of Ray Serve, each of which holds some of its rows."""
