"""What a perception node needs and ROS does not own: pairing, image and mask codecs, accounting.

Everything here works on plain Python values and numpy arrays. Nothing imports ROS or PyTorch, so
each part runs, and is tested, on a machine that has neither.
"""
