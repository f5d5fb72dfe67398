"""Makes the models: data, degradations, losses, teachers, the student, its training and export. Needs the [train] extra."""
