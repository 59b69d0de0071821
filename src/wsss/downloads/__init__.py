"""Public data sets: where they lie, fetched whole or not at all, checked and unpacked safely."""

from wsss.downloads.placing import get_data_set, settings_of
from wsss.downloads.table import DATA_SETS, Archive, DataSet

__all__ = ["DATA_SETS", "Archive", "DataSet", "get_data_set", "settings_of"]
