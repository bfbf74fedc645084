"""The exceptions that Diptych raises on purpose.

DiptychError
├── InputError (also ValueError)   what the caller handed in cannot be used
│   ├── ImageError                 a picture cannot be decoded, or is too large
│   ├── TextError                  a text is empty, not UTF-8, or longer than the context
│   ├── DataError                  a shard, table, folder or evaluation set is broken or missing
│   ├── ShapeError                 two arrays do not fit together
│   ├── ConfigError                a configuration is contradictory or absurd
│   └── WeightsError               a weight file or model folder is wrong or incomplete
├── WorkerError                    a process that reads or decodes data died
└── TrainingError                  training cannot go on
    ├── NonFiniteLossError         the loss became NaN or infinite
    ├── LossSpikeError             the loss leapt far above its running mean
    └── CheckpointError            a checkpoint cannot be written or read

Every message says what was wrong, where, and what to do. The command line prints it without a traceback.
"""


class DiptychError(Exception):
    """Base of all errors that Diptych raises on purpose."""


class InputError(DiptychError, ValueError):
    """What the caller handed in cannot be used."""


class ImageError(InputError):
    """A picture cannot be decoded, or is too large."""


class TextError(InputError):
    """A text is empty, not UTF-8, or longer than the context."""


class DataError(InputError):
    """A shard, table, folder or evaluation set is broken or missing."""


class ShapeError(InputError):
    """Two arrays do not fit together."""


class ConfigError(InputError):
    """A configuration is contradictory or absurd."""


class WeightsError(InputError):
    """A weight file or model folder is wrong or incomplete."""


class WorkerError(DiptychError):
    """A process that reads or decodes data died."""


class TrainingError(DiptychError):
    """Training cannot go on."""


class NonFiniteLossError(TrainingError):
    """The loss became NaN or infinite."""


class LossSpikeError(TrainingError):
    """The loss leapt far above its running mean."""


class CheckpointError(TrainingError):
    """A checkpoint cannot be written or read."""
