"""``python -m producer`` is ``ddim-fleet``, for where scripts are not on the PATH."""

from producer.main import main

main()
