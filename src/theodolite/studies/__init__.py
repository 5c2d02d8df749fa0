"""The studies, one short file each; the index is here."""
