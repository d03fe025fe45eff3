"""A drain or a run at work: lanes claim documents, send their stages' requests, and record each outcome.

`several_slots` works at all slots at once, `lanes` opens the lanes of one slot, a `lane` works on one document after the
other, and `document` takes it through its stages. `shared` has what the lanes of one slot share. `blame` and `next_step`
decide without I/O.
"""
