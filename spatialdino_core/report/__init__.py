"""What was found, for people: a page of pictures per movie and one page for all movies."""
