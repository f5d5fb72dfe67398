"""A small encoder of pictures and texts of this domain: it stands in for CLIP where there is none, and is never called CLIP."""
