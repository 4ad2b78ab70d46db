"""The listings of archives, kept by us so that browsing and searching ask no borg.

One SQLite file per repository below the data directory. What does not change from one archive to the next is written
once (store.py), by a worker in one pass over borg's listing (writing.py); web processes only read (reading.py,
finding.py). It can always be read anew from the repository. Paths are bytes, as they are on disk.
"""

from backups.catalog.reading import ORDERS, Catalog, Item, as_argument, paths_of, readable
from backups.catalog.store import ROOT, Damaged, NotIndexed, drop, drop_all, has, renamed
from backups.catalog.writing import build

__all__ = [
    "ORDERS", "ROOT", "Catalog", "Damaged", "Item", "NotIndexed", "as_argument", "build", "drop", "drop_all", "has",
    "paths_of", "readable", "renamed",
]  # fmt: skip
