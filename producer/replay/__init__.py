"""Images made again from their rows: chosen, made by a process of the workers', and compared with the run's own."""

from producer.replay.again import made_again
from producer.replay.choose import chosen_rows, row_of
from producer.replay.compare import Replayed, compared, lines_of

__all__ = ["Replayed", "chosen_rows", "compared", "lines_of", "made_again", "row_of"]
