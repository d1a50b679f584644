"""Fuzzing: as many programs as fit into the time, on several processes.

    fuzzer  hands programs out, guided by the behaviours that were seen
    corpus  what is kept between runs

See docs/fuzzing.md.
"""

from tornpage.fuzz.corpus import Corpus, CorpusError
from tornpage.fuzz.fuzzer import Fuzzer

__all__ = ["Corpus", "CorpusError", "Fuzzer"]
