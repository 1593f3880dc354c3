"""What people look at: the look of every plot and gallery, the terminal, cells of sheets.

What belongs here: how something is shown. What does not: what is shown; each room draws its own
pictures with what stands here. Uses: contract.
"""
