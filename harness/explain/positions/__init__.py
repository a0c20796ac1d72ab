"""Position embeddings before and after fine-tuning."""
