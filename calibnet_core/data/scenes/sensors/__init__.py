"""What real cameras make of a scene: the faults of colour and of depth."""
