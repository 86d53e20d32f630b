"""The student: a small model, its adapters and the knowledge that it reads, served."""
