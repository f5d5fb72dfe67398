"""Teachers: what a student is distilled from. They have all the time they want."""
