"""Makes view instances fresh, a bucket at a time: ``planning`` decides, ``materialize`` does, ``build`` makes the rows."""
