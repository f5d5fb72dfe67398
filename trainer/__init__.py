"""Makes the models: data, losses, teacher, student, distillation, export. Nothing here yet; see the roadmap in README.md."""
