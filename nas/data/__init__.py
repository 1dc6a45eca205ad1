"""Data sets: read from a source, split once for a study, kept as plain arrays, loaded as tensors.

Importing this loads neither torch nor torchvision nor scikit-learn.
"""

from nas.data.errors import DataError
from nas.data.prepared import DataInfo, Part, check, load, prepare, read_info

__all__ = ["DataError", "DataInfo", "Part", "check", "load", "prepare", "read_info"]
