"""Files: paths, reading input files, atomic writing, and locks for files that several processes append to."""

from diptych.files.digests import check_digest, new_digest, read_or_none
from diptych.files.input_files import HEAD, open_regular, read_object, stand_in, stand_in_at
from diptych.files.locks import locked
from diptych.files.paths import (
    absence,
    cache_folder,
    expanded,
    hub_cache_folder,
    is_there,
    looking_for,
    replaceable,
    shown,
    size_of,
    utf8,
)
from diptych.files.whole import (
    new_file,
    new_folder,
    old_place,
    remove,
    remove_unfinished,
    sync_folder,
    unfinished_name,
    write_whole,
    writing,
)

__all__ = [
    "HEAD",
    "absence",
    "cache_folder",
    "check_digest",
    "expanded",
    "hub_cache_folder",
    "is_there",
    "locked",
    "looking_for",
    "new_digest",
    "new_file",
    "new_folder",
    "old_place",
    "open_regular",
    "read_object",
    "read_or_none",
    "remove",
    "remove_unfinished",
    "replaceable",
    "shown",
    "size_of",
    "stand_in",
    "stand_in_at",
    "sync_folder",
    "unfinished_name",
    "utf8",
    "write_whole",
    "writing",
]
