"""The commands of ``ddim-fleet``, a module each; ``producer.main`` imports the one that is used."""
