"""The kinds of corpora that can be read; each module here turns one kind into a stream of records.

location    which kind a location is, and which files belong to it
jsonl       one JSON object a line            lines       text files by line: compression, UTF-8, where it broke
table       CSV                               compressed  .gz and .zst
parquet     Parquet, by batches of rows       values      what a field may hold
saved       Hugging Face datasets, saved or from the hub
text        a folder of text files
"""
