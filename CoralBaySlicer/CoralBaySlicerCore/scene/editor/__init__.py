"""What the Segment Editor edits: segments as examples, the editable area, and the preview of completed segments."""
