"""One history for each value of each parameter, and all it may leave.

Theory
======
A litmus test is a line: under this model, from these durable files, this
program, then a crash, and these are the outcomes that a look at the disk may
have; and these are some that it may not have.

    model   |files  |program                         |look    |allowed|forbidden
    tear=...|f=A4096|write f 0 B4096; fsync f; fail; |f@0 x?  |AA BB  |AB

    A4096       the letter A, 4,096 times
    write f 0 B12, truncate f 600, create x, unlink x, rename x y, link x y
    mkdir d, rmdir d
    fsync f, fdatasync f, syncdir x (of the directory that holds x)
    fail        the next sync fails
    forget f    the system drops what it keeps of f and need not write
    f@600       one letter: the byte there; `0` for zero, `#` for garbage,
                `.` behind the end, `-` when there is no such file
    x?          `+` when there is such a name, else `-`

The lines are the definition of the parameters that a person can check; they run
on the model (exhaustively) and on real file systems (where they can only fail
to show something). An allowed set is complete: the model gives exactly it.

What it is not: the look reads single bytes, so a line says nothing about which
reads recovery may combine.
"""

from __future__ import annotations

import contextlib
import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tornpage.model import CrashModel

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tornpage.disk.simulated import Disk

__all__ = ["LITMUS", "Litmus", "Machine", "OnDisk", "letter", "look", "perform"]

_LINES = """
tear=page       |f=A4096  |write f 0 B4096|f@0 f@4095|AA BB|AB BA
tear=sector     |f=A4096  |write f 0 B4096|f@0 f@4095|AA AB BA BB|
tear=sector     |f=A512   |write f 0 B512 |f@0 f@511 |AA BB|AB BA
tear=byte       |f=A512   |write f 0 B512 |f@0 f@511 |AA AB BA BB|##
tear=byte       |f=A512   |write f 0 B512 |f@0 f@9 f@99|AAA BBB BAA BBA AAB ABB|ABA BAB
tear=garbage    |f=A512   |write f 0 B512 |f@0 f@511 |AA AB BA BB ##|A# #B
order=any       |f=A1024  |write f 0 B1; write f 512 B1|f@0 f@512|AA AB BA BB|
order=any       |f=A1 g=A1|write f 0 B1; write g 0 B1|f@0 g@0|AA AB BA BB|
order=any       |f=A1     |write f 512 B1; write f 1024 C1|f@512 f@1024|.. 0. B. 00 B0 0C BC|
order=append    |f=A1     |write f 512 B1; write f 1024 C1|f@512 f@1024|.. 0. B. 00 B0 BC|0C
order=append    |f=A1024  |write f 0 B1; write f 512 B1|f@0 f@512|AA AB BA BB|
order=ordered   |f=A1024  |write f 0 B1; write f 512 B1|f@0 f@512|AA BA BB|AB
order=ordered   |f=A1 g=A1|write f 0 B1; write g 0 B1|f@0 g@0|AA BA BB|AB
order=ordered   |f=A1024  |write f 0 B1024|f@0 f@512|AA AB BA BB|
order=ordered   |f=A512   |truncate f 0; write f 0 B512|f@0|A . 0 B|
size=free       |f=A512   |write f 600 B1|f@0 f@600|A. A0 AB|
size=free       |f=A512   |truncate f 0; write f 0 B512|f@0|A . 0 B|
size=free       |f=A512   |truncate f 100; write f 0 B1; write f 512 C1|f@0 f@100 f@512|A.. B.. AA. A0. B0. AA0 AAC A00 A0C B00 B0C|BA0 BAC
size=with-data  |f=A512   |truncate f 0; write f 0 B512|f@0|A . B|0
size=with-data  |f=A512   |write f 600 B1|f@0 f@600|A. AB|A0
size=with-data  |f=A100   |write f 0 B1; write f 100 C9; truncate f 50|f@0 f@50 f@100|AA. BA. BAC A.. B..|AAC AA0 BA0
size=with-data  |f=A100   |write f 0 B1; write f 100 C9; truncate f 105|f@0 f@104 f@105|A.. B.. BC. BCC|AC. A0. BC0
size=with-data  |f=A520   |write f 512 B1; write f 520 C1024; truncate f 520; write f 1024 X520|f@512 f@1024|A. B. BC BX AX|AC A0 B0
size=with-block |f=A512   |write f 600 B1|f@0 f@600|A. A0 AB|
size=with-block |f=A4096  |write f 4096 B512|f@4095 f@4096|A. AB|A0
size=with-block |f=A4000  |write f 4000 B1000|f@4000 f@4096|.. 0B BB|00 B0 0. B.
size=with-block |f=A4000  |write f 4000 B10; write f 4010 C1000|f@4000 f@4010 f@4096|... 0.. B.. 00C B0C BCC|000 BC0
size=with-block |f=A5000  |truncate f 100; write f 100 B4900|f@0 f@100 f@4999|A.. AAA AAB ABA ABB A0A A0B|
size=with-block,order=append|f=A1|write f 512 B1; write f 1024 C1|f@512 f@1024|.. 0. B. 00 B0 0C BC|.C
size=with-block,order=append|f=A4096|write f 4096 B512; write f 8192 C512|f@4096 f@8192|.. B. BC|0C 00
size=with-data,tear=garbage|f=A512|write f 512 B512|f@0 f@512|A. AB|A# A0
size=with-data,tear=garbage|f=A512|write f 512 B512; write f 512 C512|f@0 f@512 f@1023|A.. ABB ABC ACB ACC A##|A00 A0B
size=with-data,unit=4096|f=A512   |write f 512 B512|f@0 f@512|A. #. AB|#B A#
size=with-data,unit=4096|f=A512   |write f 512 B512; write f 512 C512|f@0 f@512|A. #. AB AC #B #C|A# ##
size=with-data,unit=4096|f=A512   |write f 512 B512; truncate f 100|f@0 f@100 f@512|AA. ##. AAB A.. #..|##B
entries=prefix  |         |create x; create y|x? y?|-- +- ++|-+
entries=free    |         |create x; create y|x? y?|-- +- ++ -+|
fail=clean      |f=A1024  |write f 0 B1024; fail; fsync f; fsync f|f@0 f@512|AA AB BA BB|
fail=clean      |f=A1024  |write f 0 B1024; fail; fsync f; write f 0 B1024; fsync f|f@0 f@512|BB|AA AB BA
fail=clean      |f=A1024  |write f 0 B512; fail; fsync f; write f 512 B512; fsync f|f@0 f@512|AB BB|AA BA
fail=clean,order=ordered|f=A1 g=A1|write f 0 B1; fail; fsync f; write g 0 B1; write f 0 C1; fsync g|f@0 g@0|AB BB CB|AA BA CA
fail=clean,order=ordered|f=A1 g=A1|write f 0 B1; fail; fsync f; write g 0 B1; write f 0 B1; fsync g|f@0 g@0|AB BB|AA BA
fail=clean,order=ordered|f=A1 g=A1|write f 0 B1; fail; fsync f; write g 0 B1; write f 0 B1; fsync f|f@0 g@0|BA BB|AA AB
fail=late       |f=A1024  |write f 0 B512; fail; fsync f; write f 512 B512; fsync f|f@0 f@512|AA AB BA BB|
fail=late       |f=A1024  |write f 0 B512; fail; fsync f; fsync f; write f 512 B512; fsync f|f@0 f@512|AB BB|AA BA
fail=revert     |f=A1024  |write f 0 B1024; fail; fsync f; fsync f|f@0 f@512|AA|AB BA BB
fail=revert     |f=A512   |write f 600 B1; fail; fsync f; write f 0 C1; fsync f|f@0 f@600|C.|A. AB C0 CB
fail=read-only  |f=A1024  |write f 0 B512; fail; fsync f; write f 512 B512|f@0 f@512|AA BA|AB BB
fail=clean      |f=A1     |write f 1 B1; fail; fsync f; fsync f|f@0 f@1|A. A0 AB|
fail=clean      |f=A1     |truncate f 2; fail; fsync f; fsync f|f@0 f@1|A. A0|
fail=clean      |f=A2     |truncate f 1; fail; fsync f; fsync f|f@0 f@1|A. AA|A0
fail=clean      |f=A1     |write f 1 B1; fail; fsync f; write f 1 B1; fsync f|f@1|B|. 0
fail=clean      |f=A1     |truncate f 3; fail; fsync f; truncate f 2; fsync f|f@1 f@2|0.|.. 00
fail=clean      |f=A1     |write f 512 B1; fail; fsync f; write f 0 C1; fsync f|f@0 f@512|C. C0 CB|A. A0 AB
fail=clean      |f=A1     |write f 512 B1; truncate f 600; fail; fsync f; write f 512 C1; fsync f|f@512 f@599|C. C0|.. 00 B0
fail=clean      |f=A512   |write f 512 B512; fail; fsync f; write f 1024 C1; fsync f|f@512 f@1024|0C BC|.. 0. B. B0
fail=clean,calls=paged|f=A4000|write f 4000 B200; fail; fsync f; write f 4000 C1; fsync f|f@4000 f@4096|C. C0 CB|.. B. BB
fail=clean,size=with-data|f=A1|write f 1 B1; fail; fsync f; fsync f|f@0 f@1|A. A0 AB|
fail=clean,order=ordered|f=A1|write f 1 B1; fail; fsync f; fsync f|f@1|. 0 B|
fail=clean,order=ordered|f=A1 g=A1|write f 1 B1; fail; fsync f; write g 0 B1; fsync g|f@1 g@0|0B BB|.B .A
fail=late       |f=A1     |write f 1 B1; fail; fsync f; fsync f; fsync f|f@1|0 B|.
fail=clean,names=fsync|   |create x; fail; fsync x; fsync x|x?|- +|
fail=clean,names=fsync|   |create x; fail; fdatasync x; fsync x|x?|- +|
fail=clean,names=fsync|x=X1 y=Y1|rename x y; fail; fsync y; fsync y|x@0 y@0|XY -X|
fail=clean      |         |create x; fail; fsync x; syncdir x|x?|- +|
fail=clean      |         |create x; create y; fail; fsync y; syncdir y|x? y?|+- ++|-- -+
fail=clean      |         |create x; fail; fsync x; write x 0 X1; syncdir x|x?|+|-
fail=clean      |         |create x; fail; fsync x; link x z; unlink z; syncdir x|x? z?|+-|-- ++
fail=clean      |         |create x; fail; fsync x; create y; syncdir y|x? y?|++|-- +- -+
fail=clean,entries=free|  |create x; fail; fsync x; create y; syncdir y|x? y?|-+ ++|-- +-
fail=clean,names=fsync,entries=free||mkdir d; create d/x; fail; fsync d/x; create d/y; fsync d/y|d? d/x? d/y?|+-+ +++|--- ++-
fail=clean      |         |create x; fail; syncdir x; create y; syncdir y|x? y?|-- +-|-+ ++
fail=clean      |f=A1     |write f 0 B1; create x; fail; syncdir x; fsync f; syncdir x|f@0 x?|A- A+ B- B+|
fail=read-only  |f=A1 g=A1|write f 0 B1; write g 0 B1; fail; fsync f; fsync f; fsync g|f@0 g@0|AA AB BA BB|
fail=clean      |         |create x; syncdir x; write x 0 B1; fail; fsync x; write x 0 C1; fsync x|x@0|C|. 0 B
fail=unwritten  |         |create x; syncdir x; write x 0 B1; fail; fsync x; write x 0 C1; fsync x|x@0|0 B C|.
fail=unwritten  |         |create x; syncdir x; write x 0 B1; fail; fsync x; write x 512 C1; fsync x; fsync x|x@0 x@512|B0 00 BC 0C|B. 0.
fail=unwritten  |         |create x; syncdir x; write x 0 B1; fail; fsync x; forget x; write x 0 C1; fsync x|x@0|C|. 0 B
fail=unwritten  |         |create x; syncdir x; write x 0 B1; fail; fsync x; write x 0 B1; forget x; write x 0 B1; fsync x|x@0|0 B|.
fail=unwritten  |         |create x; syncdir x; write x 0 B1; fail; fsync x; truncate x 0; write x 0 C1; fsync x|x@0|C|. 0 B
fail=unwritten  |         |create x; syncdir x; write x 0 B1; fsync x; write x 0 C1; fail; fsync x; write x 0 C1; fsync x|x@0|C|. 0 B
fail=unwritten  |f=A1     |write f 1 B1; fail; fsync f; write f 1 B1; fsync f|f@0 f@1|AB|A. A0
fail=unwritten  |f=A1     |truncate f 5000; fsync f; write f 4096 B1; fail; fsync f; write f 4096 B1; fsync f|f@4096|0 B|.
sync=honest     |f=A1     |write f 0 B1; fsync f|f@0|B|A
sync=lying:1    |f=A1     |write f 0 B1; fsync f|f@0|A B|
sync=lying:1    |f=A1     |write f 0 B1; fsync f; fsync f|f@0|B|A
sync=lying:1    |f=A1 g=A1|write f 0 B1; fsync f; write g 0 B1; fsync g|f@0 g@0|AB BA BB|AA
sync=lying:2    |f=A1 g=A1|write f 0 B1; fsync f; write g 0 B1; fsync g|f@0 g@0|AA AB BA BB|
sync=lying:1    |         |create x; syncdir x; syncdir x|x?|+|-
unit=none       |f=A1024  |write f 0 B512|f@0 f@512|AA BA|A# B#
unit=4096       |f=A8192  |write f 0 B512|f@0 f@512 f@4096|AAA BAA A#A B#A|AA# #AA
unit=8192       |f=A8192  |write f 0 B512|f@0 f@4096|AA BA A# B#|#A ##
unit=4096       |f=A1024  |write f 0 B512; fsync f|f@0 f@512|BA|B# AA
extend=zero     |f=A512   |write f 512 B512|f@0 f@512|A. A0 AB|A#
extend=garbage  |f=A512   |write f 512 B512|f@0 f@512|A. A0 AB A#|
extend=garbage  |f=A512   |truncate f 1024|f@0 f@512|A. A0|A#
extend=garbage,order=ordered|f=A512|write f 512 B512; truncate f 512; write f 512 C88|f@0 f@512 f@600|A.. A00 ABB A## A0. A#. AC.|AB. AC0
extend=garbage,size=with-data|f=A512|write f 512 B512; truncate f 512; write f 512 C88|f@0 f@512 f@600|A.. ABB AC0 AC.|A## A#. A00
extend=garbage,size=with-data|f=A512|write f 512 B88; fail; fsync f; write f 600 C1|f@0 f@512 f@600|A.. A0. A#. AB. ABC|A#C A0C
extend=garbage,size=with-data|f=A512|write f 512 B88; fail; fsync f; truncate f 512; write f 512 C44|f@0 f@512 f@556|A.. A00 A## ABB AC0 AC.|A#. A0. AB.
rename=atomic   |x=X1 y=Y1|rename x y|x@0 y@0|XY -X|X- XX -Y --
rename=synced   |x=X1 y=Y1|rename x y|x@0 y@0|XY X- XX -X|-Y --
rename=synced   |x=X1 y=Y1|fsync x; rename x y|x@0 y@0|XY XX -X|X- -Y --
rename=synced   |x=X1 y=Y1|fsync x; fsync y; rename x y|x@0 y@0|XY X- XX -X|-Y --
rename=synced   |x=X1 d/y=Y1|fsync x; rename x d/y; syncdir d/y|x@0 d/y@0|XX -X|XY X- -Y --
rename=synced,entries=free|x=X1 d/y=Y1|fsync x; rename x d/y; syncdir x|x@0 d/y@0|-X|XX XY X- -Y --
rename=synced,entries=free|x=X1 d/y=Y1|rename x d/y; syncdir d/y|x@0 d/y@0|XX -X|XY X- -Y --
rename=split    |x=X1 y=Y1|rename x y|x@0 y@0|XY X- XX -X|-Y --
names=dirsync   |         |create x; write x 0 X1; fsync x|x@0|- X|
names=fsync     |         |create x; write x 0 X1; fsync x|x@0|X|-
names=fsync     |         |create x; write x 0 X1; fdatasync x|x@0|- X|
names=fsync     |f=A1     |create x; rename f g; fsync x|x? f? g?|++- +-+|-+- --+
names=dirsync   |         |mkdir d; create d/x; fsync d/x|d? d/x?|-- +- ++|-+
entries=prefix  |         |mkdir d; create d/x; syncdir d/x|d? d/x?|++|-- +- -+
entries=free    |         |mkdir d; create d/x; syncdir d/x|d? d/x?|-- ++|+- -+
entries=free    |         |mkdir d; create d/x; syncdir d/x; syncdir d|d? d/x?|++|-- +- -+
names=fsync     |         |mkdir d; create d/x; fsync d/x|d? d/x?|++|-- +- -+
names=fsync     |         |mkdir d; create d/x; syncdir d/x|d? d/x?|++|-- +- -+
names=fsync     |d/z=A1   |create d/x; rename d e; fsync e/x|d/x? e/x?|+- -+|++ --
names=fsync     |d/z=A1 y=A1|create d/x; write y 0 B600; fdatasync y; rename d e; fsync e/x|d/x? e/x?|+- -+|++ --
names=fsync     |d/z=A1   |rename d e; create e/x; fsync e/x|d/x? e/x?|-+|+- --
names=fsync,entries=free|d/z=A1|rename d e; create e/x; fsync e/x|d/x? e/x?|+- -+|++ --
names=fsync,entries=free|d/z=A1|mkdir e; rename d e/d; create e/d/x; fsync e/d/x|d/x? e? e/d/x?|++- -++|+-- -+- ---
names=fsync,entries=free||mkdir d; mkdir e; mkdir d/g; rename d/g e/g; create e/g/x; fsync e/g/x|d/g/x? e/g/x?|+- -+|--
names=fsync     |d/e/z=A1 |rename d g; syncdir g/e/z|d/e/z? g/e/z?|+- -+|
names=fsync     |d/z=A1   |rename d g; syncdir g/z|d/z? g/z?|-+|+-
names=fsync,entries=free||mkdir d; create d/x; rename d/x y; fsync y|d? y?|-+ ++|-- +-
names=fsync     |x=A1     |create y; rename y z; rename x y; fsync z|x? y? z?|+-+ -++|++- ---
entries=prefix  |         |mkdir d; create d/x; create y|d? d/x? y?|--- +-- ++- +++|--+ -++ -+-
entries=free    |         |mkdir d; create d/x; create y|d? d/x? y?|--- +-- ++- +++ --+ +-+|-++ -+-
entries=free    |d/x=X1   |unlink d/x; rmdir d; mkdir d|d? d/x?|++ +- --|-+
rename=atomic   |d/x=X1   |rename d e|d/x@0 e/x@0|X- -X|XX --
entries=free    |d/x=X1 e/y=Y1|rename d e/d; rename e/d f; syncdir f|d/x? e/d/x? f/x?|--+|+-- +-+
entries=free    |d/x=X1 e/y=Y1|rename d f; rename f e/g; syncdir e/g|d/x? f/x? e/g/x?|--+|+-- +-+ -+-
entries=free    |d/x=X1   |create d/y; rename d e; syncdir e|d/x? e/x? e/y?|-++ -+-|+-- ---
entries=prefix  |d/x=X1   |create d/y; rename d e; syncdir e|d/x? e/x? e/y?|-++|-+-
entries=prefix  |f=A1     |link f g; write g 0 B1; fsync g|f@0 g@0|B- BB|A- AA AB BA
entries=free    |f=A1     |link f g; unlink f; syncdir g|f? g@0|-A|-- +-
names=fsync     |f=A1     |link f g; fsync f|f? g?|++|+-
calls=whole     |f=A4000  |write f 4000 B500|f@4000 f@4096|.. 00 0B B0 BB|0. B.
calls=paged     |f=A4000  |write f 4000 B500|f@4000 f@4096|.. 0. B. 00 0B B0 BB|.B
calls=paged     |f=A1     |write f 8192 B1|f@4096 f@8192|.. 0. 00 0B|.0
calls=whole     |f=A100   |truncate f 50|f@49 f@50|AA A.|A0
calls=paged     |f=A100   |truncate f 50|f@49 f@50|AA A0 A.|0A
calls=paged     |f=A9000  |truncate f 5000|f@5000 f@8191 f@8192|AAA 00A 0AA A0A ...|..A
calls=paged,size=with-data|f=A4000|write f 4000 B500|f@4000 f@4096|.. B. BB|0. 00 B0
calls=paged,order=ordered|f=A4000|write f 4000 B1096; write f 0 C1|f@0 f@4000 f@4608|A.. A0. AB. AB0 ABB CBB|A00 A0B
journal=own     |f=A1 g=A1|write f 0 B1; write g 0 B1; fail; fsync f; fsync g|f@0 g@0|AB BB|AA BA
journal=shared  |f=A1 g=A1|write f 0 B1; write g 0 B1; fail; fsync f; fsync g|f@0 g@0|AA AB BA BB|
journal=shared  |f=A1 g=A1|write f 0 B1; write g 0 B1; fail; fsync f; write f 0 C1; fsync g|f@0 g@0|AB BB CB|AA BA CA
journal=shared  |g=A1     |write g 1 B1; create x; fail; fsync x; fsync g|g@0 g@1|A. A0 AB|
journal=shared  |g=A1     |write g 1 B1; create x; fail; fsync x; truncate g 2; fsync g|g@1|. 0 B|
journal=shared  |g=A1     |write g 1 B1; create x; fail; fsync x; truncate g 3; fsync g|g@1|B|. 0
journal=shared  |         |create x; create y; fail; fsync y; syncdir y|x? y?|-- +- ++|-+
journal=shared  |         |create x; create y; fail; fsync y; syncdir y; create z; syncdir z|x? y? z?|+++|--- +-- ++-
journal=shared  |d/f=A1   |create x; fail; fsync d/f; mkdir e; syncdir x|x? e?|++|-- +- -+
journal=shared,names=fsync|f=A1|create x; write f 0 B1; fail; fsync f; fsync x|x? f@0|-A -B +A +B|
journal=shared,names=fsync|f=A1|create x; write f 0 B1; fail; fsync f; unlink f; fsync x|x?|+|-
journal=shared,fail=late|f=A1 g=A1|write f 0 B1; write g 0 B1; fail; fsync f; fsync g|f@0 g@0|AB BB|AA BA
"""  # noqa: E501 - a line is a line.


@dataclass(frozen=True, slots=True)
class Litmus:
    """One line.

    Attributes:
        model: The parameter and its value.
        files: Durable files, as (name, content).
        program: Its steps, each a tuple of words.
        look: What is looked at, in order.
        allowed: Every outcome that the model allows.
        forbidden: Some that it does not.
    """

    model: str
    files: tuple[tuple[str, bytes], ...]
    program: tuple[tuple[str, ...], ...]
    look: tuple[str, ...]
    allowed: frozenset[str]
    forbidden: frozenset[str]

    @classmethod
    def parse(cls, line: str) -> Litmus:
        """The record of a line.

        Raises:
            ValueError: It has not six columns.
        """
        model, files, program, looks, allowed, forbidden = map(
            str.strip, line.split("|")
        )
        CrashModel.parse(model)
        named = (one.partition("=") for one in files.split())
        return cls(
            model,
            tuple((name, letters(content)) for name, _, content in named),
            tuple(tuple(one.split()) for one in program.split(";")),
            tuple(looks.split()),
            frozenset(allowed.split()),
            frozenset(forbidden.split()),
        )

    def __str__(self) -> str:
        return f"{self.model}: {'; '.join(map(' '.join, self.program))}"


class Machine(Protocol):
    """What a litmus program runs on: a simulated disk, or a real directory."""

    def write(self, name: str, offset: int, data: bytes) -> None:
        """Write to a file."""
        ...

    def truncate(self, name: str, size: int) -> None:
        """Set a file's size."""
        ...

    def sync(self, kind: str, name: str) -> None:
        """Sync a file ("fsync", "fdatasync") or its directory ("syncdir")."""
        ...

    def change(self, kind: str, names: Sequence[str]) -> None:
        """Do "create", "unlink", "rename", "link", "mkdir" or "rmdir"."""
        ...

    def fail(self) -> None:
        """Let the next sync fail."""
        ...

    def forget(self, name: str) -> None:
        """Drop what is kept of a file and need not be written."""
        ...


def letters(text: str) -> bytes:
    """The bytes of "A4096"."""
    return text[:1].encode() * int(text[1:])


def perform(program: Sequence[Sequence[str]], machine: Machine) -> Iterator[int]:
    """Run a program, yielding after each step how many were done."""
    for number, (verb, *words) in enumerate(program, 1):
        # A refused step is part of the story: nobody corrects it.
        with contextlib.suppress(OSError):
            if verb == "write":
                machine.write(words[0], int(words[1]), letters(words[2]))
            elif verb == "truncate":
                machine.truncate(words[0], int(words[1]))
            elif verb == "fail":
                machine.fail()
            elif verb == "forget":
                machine.forget(words[0])
            elif verb in {"fsync", "fdatasync", "syncdir"}:
                machine.sync(verb, words[0])
            else:
                machine.change(verb, words)
        yield number


def letter(found: bytes | None, known: str) -> str:
    """One byte of a look: None for no file, b"" for behind its end."""
    if found is None:
        return "-"
    if not found:
        return "."
    return chr(found[0]) if chr(found[0]) in known else "0" if found == b"\0" else "#"


def look(disk: Disk, probes: Sequence[str]) -> str:
    """What is on a simulated disk."""
    seen = ""
    for probe in probes:
        name, at, offset = probe.partition("@")
        if not at:
            name = name.rstrip("?")
            seen += "+" if disk.exists(name) or disk.is_dir(name) else "-"
            continue
        found = None
        if disk.exists(name):
            found = disk.open(name, read_only=True).pread(1, int(offset))
        seen += letter(found, "ABCXY")
    return seen


class OnDisk:
    """A litmus program's machine: a simulated disk."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def write(self, name: str, offset: int, data: bytes) -> None:
        """Write to a file."""
        self._disk.open(name).pwritev([data], offset)

    def truncate(self, name: str, size: int) -> None:
        """Set a file's size."""
        self._disk.open(name).ftruncate(size)

    def sync(self, kind: str, name: str) -> None:
        """Sync a file or its directory."""
        try:
            if kind == "syncdir":
                self._disk.fsync_dir(name)
            elif kind == "fsync":
                self._disk.open(name).fsync()
            else:
                self._disk.open(name).fdatasync()
        finally:
            self._disk.fail_sync = None

    def change(self, kind: str, names: Sequence[str]) -> None:
        """Do "create", "unlink", "rename", "link", "mkdir" or "rmdir"."""
        if kind == "create":
            self._disk.open(names[0], create=True)
        else:
            getattr(self._disk, kind)(*names)

    def fail(self) -> None:
        """Let the next sync fail."""
        self._disk.fail_sync = lambda *_: errno.EIO

    def forget(self, name: str) -> None:
        """Drop what is kept of a file and need not be written."""
        self._disk.open(name).forget()


LITMUS: tuple[Litmus, ...] = tuple(map(Litmus.parse, _LINES.strip().splitlines()))
"""Every line."""
