"""What a Vision Transformer looks at and what it knows about place: numbers only, drawn elsewhere."""
