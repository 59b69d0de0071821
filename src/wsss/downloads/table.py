"""The data sets that anybody may fetch, with what is known of their files."""

from dataclasses import dataclass

__all__ = ["DATA_SETS", "Archive", "DataSet"]


@dataclass(frozen=True)
class Archive:
    """A file to fetch and to unpack.

    Attributes:
        urls: where it lies, http or https; the next is asked where one does not answer.
        size: in bytes.
        checksum: "md5:…" or "sha256:…"; "" where nobody has published one.
    """

    urls: tuple[str, ...]
    size: int
    checksum: str = ""

    @property
    def file(self) -> str:
        """The name of the file."""
        return self.urls[0].rpartition("/")[2]


@dataclass(frozen=True)
class DataSet:
    """A data set.

    Attributes:
        about: what it is, in a line.
        licence: what its authors allow, in a line.
        page: where it is described, or where to ask for it.
        settings: the lines for params.yaml, in which {root} is where its images lie.
        archives: what to fetch; none where it has to be asked for.
        unpacked: bytes that take room once unpacked, about.
        within: the folder in it that the settings name.
        layout: what has to be there once unpacked, with the least number of files in a folder,
            or 0 where a checksum says as much.
    """

    about: str
    licence: str
    page: str
    settings: str
    archives: tuple[Archive, ...] = ()
    unpacked: int = 0
    within: str = ""
    layout: tuple[tuple[str, int], ...] = ()


_VOC = "VOCdevkit/VOC2012"
_PETS = "https://www.robots.ox.ac.uk/~vgg/data/pets/data"

DATA_SETS = {
    "voc2012": DataSet(
        about="PASCAL VOC 2012, train and val: 20 classes; masks of 2913 images",
        licence="photographs from Flickr, under its terms of use; for research",
        page="http://host.robots.ox.ac.uk/pascal/VOC/voc2012/",
        settings="""\
prepare_data:
  dataset: {{name: pascal_voc, root: {root}, train_list: train}}""",
        archives=(
            Archive(
                (
                    "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
                    "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
                ),
                1_999_639_040,
                "md5:6cd6e144f989b92b3379bac3b3de84fd",
            ),
        ),
        unpacked=2_100_000_000,
        layout=(
            (f"{_VOC}/JPEGImages", 0),
            (f"{_VOC}/SegmentationClass", 0),
            (f"{_VOC}/Annotations", 0),
            (f"{_VOC}/ImageSets/Segmentation/train.txt", 0),
        ),
    ),
    "pets": DataSet(
        about="Oxford-IIIT Pet: cats and dogs of 37 breeds, a trimap of each",
        licence="CC BY-SA 4.0; the photographs belong to their owners",
        page="https://www.robots.ox.ac.uk/~vgg/data/pets/",
        settings="""\
prepare_data:
  dataset: {{name: oxford_pet, root: {root}, classes: species}}""",
        archives=(
            Archive(
                (f"{_PETS}/images.tar.gz",), 791_918_971, "md5:5c4f3ee8e5d25df40f4fd59a7f44e54c"
            ),
            Archive(
                (f"{_PETS}/annotations.tar.gz",), 19_173_078, "md5:95a8c909bbe2e81eed6a22bccdf3f68f"
            ),
        ),
        unpacked=900_000_000,
        layout=(("images", 0), ("annotations/trimaps", 0), ("annotations/list.txt", 0)),
    ),
    "stanford_background": DataSet(
        about="Stanford Background: 715 outdoor scenes, as images of anything but the classes",
        licence="none is stated; photographs of LabelMe, MSRC, PASCAL VOC and Geometric Context",
        page="http://dags.stanford.edu/projects/scenedataset.html",
        settings="""\
prepare_data:
  background_images: {root}""",
        archives=(Archive(("http://dags.stanford.edu/data/iccv09Data.tar.gz",), 14_727_974),),
        unpacked=100_000_000,
        within="iccv09Data/images",
        layout=(("iccv09Data/images", 715),),
    ),
    "smoke5k": DataSet(
        about="SMOKE5K: photographs and renderings of smoke, with masks",
        licence="see the page",
        page="https://github.com/SiyuanYan1/Transmission-BVM",
        settings="""\
# with its images in images/train and images/test, and its masks in masks/train and masks/test
prepare_data:
  dataset: {{name: tiles, root: {root}}}""",
    ),
}
"""By the names that `wsss data get` takes."""
