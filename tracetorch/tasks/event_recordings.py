"""Public recordings of events, each as a `File` with its published split."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

from tracetorch.files import expanded
from tracetorch.tasks.file import File
from tracetorch.tasks.task import whole_at_least


class Download(NamedTuple):
    """An archive of a public data set."""

    name: str  # in the cache
    url: str
    md5: str
    unpacked: str | None = None  # folder in the cache into which it is unpacked; None: it is read as an archive


class Source(NamedTuple):
    """The archives of a public data set, and the layout of a folder with it."""

    name: str
    archives: tuple[Download, ...]
    layout: str  # the files of a user's folder, for messages

    def load(self, source: str, channels: int, **options: Any) -> File:
        """Return the task.

        Args: source: as of `find`. channels: number of inputs that the data set has. options: of `File`.
        Raises: as `find` and `File`; ValueError for a folder with other data.
        """
        task = File(path=self.find(source), **options)
        if task.input_size != channels:
            raise ValueError(
                f"source={source} holds data of {task.input_size:,} channels, and {self.name} has {channels:,}; give a "
                f"folder with {self.layout}"
            )
        return task

    def find(self, source: str, cache: Path | None = None) -> str:
        """Return the folder of the data.

        Args: source: "download", or a folder. cache: folder for the download; None: pooch's.
        Raises: FileNotFoundError if there is no such folder; OSError if the download fails.
        """
        if source == "download":
            return str(self.fetch(cache))
        is_folder = os.path.isdir(expanded(source))  # noqa: PTH112  # unlike Path.is_dir, False for a name that is too long
        if not source or not is_folder:
            raise FileNotFoundError(
                f"source={source[:200]}: there is no such folder; give one with {self.layout}, or source=download"
            )
        return source

    def fetch(self, cache: Path | None = None) -> Path:
        """Download archives that the cache lacks, check and unpack them, and return their folder. Raises: OSError."""
        import pooch

        folder = cache or Path(pooch.os_cache("tracetorch")) / self.name
        downloader = pooch.create(
            path=folder,
            base_url="",
            registry={each.name: f"md5:{each.md5}" for each in self.archives},
            urls={each.name: each.url for each in self.archives},
        )
        for each in self.archives:
            unpack = pooch.Untar if each.name.endswith(".tar.gz") else pooch.Unzip
            try:
                processor = None if each.unpacked is None else unpack(extract_dir=each.unpacked)
                downloader.fetch(each.name, processor=processor)
            except (OSError, ValueError) as error:  # no network, or a file that does not match its hash
                raise OSError(
                    f"source=download: {each.url} could not be fetched ({type(error).__name__}); give source=FOLDER "
                    f"with {self.layout}"
                ) from error
        return folder


_HEIDELBERG = "https://zenkelab.org/datasets/"
_MENDELEY = "https://data.mendeley.com/public-files/datasets/468j46mzdv/files/"
_FIGSHARE = "https://figshare.com/ndownloader/files/"

SHD = Source(
    "shd",
    (
        Download("shd_train.h5.zip", f"{_HEIDELBERG}shd_train.h5.zip", "f3252aeb598ac776c1b526422d90eecb", "."),
        Download("shd_test.h5.zip", f"{_HEIDELBERG}shd_test.h5.zip", "1503a5064faa34311c398fb0a1ed0a6f", "."),
    ),
    "shd_train.h5 and shd_test.h5",
)
NMNIST = Source(
    "nmnist",
    (
        Download(
            "train.zip",
            f"{_MENDELEY}39c25547-014b-4137-a934-9d29fa53c7a0/file_downloaded",
            "20959b8e626244a1b502305a9e6e2031",
        ),
        Download(
            "test.zip",
            f"{_MENDELEY}05a4d654-7e03-4c15-bdfa-9bb2bcbea494/file_downloaded",
            "69ca8762b2fe404d9b9bad1103e97832",
        ),
    ),
    "Train/<digit>/*.bin and Test/<digit>/*.bin, or Train.zip and Test.zip",
)
DVS_GESTURE = Source(
    "dvs_gesture",
    (
        Download("train.tar.gz", f"{_FIGSHARE}38022171", "3a8f0d4120a166bac7591f77409cb105", "train"),
        Download("test.tar.gz", f"{_FIGSHARE}38020584", "56070e45dadaa85fff82e0fbfbc06de5", "test"),
    ),
    "user*.aedat, user*_labels.csv, trials_to_train.txt and trials_to_test.txt",
)


def shd(
    *,
    source: str = "download",
    dt: float = 0.02,
    max_time: float | None = None,
    max_rate: float = 1.0,
    validation: float | str = 0.1,
    augment_steps: int = 0,
    augment_channels: int = 0,
    batch_size: int = 64,
    seed: int = 0,
) -> File:
    """Spiking Heidelberg Digits: spoken digits, zero to nine in English and German, as spikes of 700 cochlear channels.

    Args:
        source: "download" (8,156 training and 2,264 test recordings, stored in a cache), or a folder with
            shd_train.h5 and shd_test.h5. A folder with ssc_train.h5, ssc_valid.h5 and ssc_test.h5, the Spiking Speech
            Commands, is read in the same way.
        dt: length of a time step in seconds; input is the number of spikes in it.
        max_time: seconds; later spikes are dropped. None: all are kept; a recording lasts at most 1.4 s.
        validation: training recordings to hold out: a fraction, or a condition such as "speaker=4".
        max_rate, augment_steps, augment_channels, batch_size, seed: see `SampledTask`.
    Raises: OSError if the data cannot be read; ImportError without h5py; ValueError for other data or settings.
    Source: Cramer, Stradmann, Schemmel and Zenke (2022), The Heidelberg spiking data sets for the systematic evaluation
        of spiking neural networks, doi:10.1109/TNNLS.2020.3044364.
    """
    return SHD.load(
        source,
        channels=700,
        dt=dt,
        max_time=max_time,
        max_rate=max_rate,
        validation=validation,
        augment_steps=augment_steps,
        augment_channels=augment_channels,
        batch_size=batch_size,
        seed=seed,
    )


def nmnist(
    *,
    source: str = "download",
    dt: float = 0.005,
    max_time: float | None = None,
    downsample: int = 1,
    max_rate: float = 1.0,
    validation: float | str = 0.1,
    augment_steps: int = 0,
    batch_size: int = 64,
    seed: int = 0,
) -> File:
    """N-MNIST: handwritten digits, recorded by a moving event camera of 34×34 pixels with two polarities.

    Args:
        source: "download" (60,000 training and 10,000 test recordings, more than a GB, stored in a cache), or a folder
            with Train/<digit>/*.bin and Test/<digit>/*.bin, or with Train.zip and Test.zip.
        dt: length of a time step in seconds; input is the number of events in it. A recording lasts 0.3 s.
        max_time: seconds; later events are dropped: 0.105 keeps the first of three movements. None: all are kept.
        downsample: pixels in each direction that become one channel.
        max_rate, validation, augment_steps, batch_size, seed: see `SampledTask`.
    Memory: 6 bytes for each event, about 1.8 GB for all.
    Raises: OSError if the data cannot be read; ValueError for other data or settings.
    Source: Orchard, Jayawant, Cohen and Thakor (2015), Converting static image datasets to spiking neuromorphic
        datasets using saccades, doi:10.3389/fnins.2015.00437.
    """
    whole_at_least(1, downsample=downsample)
    return NMNIST.load(
        source,
        channels=2 * (-(-34 // downsample)) ** 2,
        dt=dt,
        max_time=max_time,
        downsample=downsample,
        max_rate=max_rate,
        validation=validation,
        augment_steps=augment_steps,
        batch_size=batch_size,
        seed=seed,
    )


def dvs_gesture(
    *,
    source: str = "download",
    dt: float = 0.02,
    max_time: float | None = 2.0,
    downsample: int = 4,
    max_rate: float = 1.0,
    validation: float | str = 0.1,
    augment_steps: int = 0,
    batch_size: int = 32,
    seed: int = 0,
) -> File:
    """DVS128 Gesture: eleven gestures of the hand and the arm, recorded by an event camera of 128×128 pixels.

    Args:
        source: "download" (the recordings cut into gestures, with times in ms, as Tonic provides them; stored in a
            cache), or a folder with the original user*.aedat, user*_labels.csv, trials_to_train.txt and
            trials_to_test.txt.
        dt: length of a time step in seconds; input is the number of events in it.
        max_time: seconds; later events are dropped. None: all are kept; a gesture lasts about 6 s.
        downsample: pixels in each direction that become one channel: 4 gives 32·32·2 channels.
        validation: training recordings to hold out: a fraction, or a condition such as "user=7".
        max_rate, augment_steps, batch_size, seed: see `SampledTask`.
    Memory: 6 bytes for each event.
    Raises: OSError if the data cannot be read; ValueError for other data or settings.
    Source: Amir et al. (2017), A low power, fully event-based gesture recognition system, doi:10.1109/CVPR.2017.781.
    """
    whole_at_least(1, downsample=downsample)
    return DVS_GESTURE.load(
        source,
        channels=2 * (-(-128 // downsample)) ** 2,
        dt=dt,
        max_time=max_time,
        downsample=downsample,
        max_rate=max_rate,
        validation=validation,
        augment_steps=augment_steps,
        batch_size=batch_size,
        seed=seed,
    )
