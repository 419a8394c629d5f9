"""Tables of figures as Markdown, LaTeX and CSV: best in bold, second underlined, intervals, notes."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from handi.core.files import write_text
from handi.evaluation.results import ARROWS, number


@dataclass(frozen=True)
class Column:
    """A column of figures."""

    key: str
    title: str
    better: str = "neither"


@dataclass(frozen=True)
class Cell:
    """A figure, or why there is none."""

    value: float | None = None
    interval: tuple[float, float] | None = None
    why: str = ""  # where there is no value
    printed: bool = False  # all its digits are shown, as the paper prints them
    n: int | None = None  # videos behind it; shown where it is not the row's

    @property
    def text(self) -> str:
        """The value in words."""
        assert self.value is not None
        return repr(self.value) if self.printed else number(self.value)


@dataclass(frozen=True)
class FigureRow:
    """A row: its words, its figures, and among which rows it is ranked."""

    heads: tuple[str, ...]
    cells: dict[str, Cell]
    group: str  # rows of one group are compared with each other; "": with none
    remark: str = ""  # the last column
    n: int | None = None  # videos that were scored

    def below(self, cell: Cell) -> str:
        """What stands small beside a figure: its interval, and its n where videos have no such score."""
        parts = [] if cell.interval is None else [f"[{', '.join(map(number, cell.interval))}]"]
        parts += [] if cell.n in (None, self.n) else [f"n = {cell.n}"]
        return ", ".join(parts)


@dataclass
class Table:
    """A table and the notes below it."""

    title: str
    heads: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: list[FigureRow]
    notes: list[str] = field(default_factory=list)

    def write(self, folder: Path, name: str) -> list[Path]:
        """NAME.md, NAME.tex and NAME.csv; gives their paths. Raises: OutputError."""
        paths = []
        for suffix, text in ((".md", self.markdown()), (".tex", self.latex()), (".csv", self.csv())):
            write_text(folder / f"{name}{suffix}", text)
            paths.append(folder / f"{name}{suffix}")
        return paths

    @property
    def scored(self) -> bool:
        """Whether any row has figures of videos that were scored here."""
        return any(row.n is not None for row in self.rows)

    # ------------------------------------------------------------------------------------- formats

    def markdown(self) -> str:
        """A pipe table with its title and notes."""
        titles, rows, notes = self._filled(_MARKDOWN)
        rule = "---|" * len(self.heads) + "---:|" * len(self.columns) + "---|" * self._remarked
        titles += ["beside the paper"] * self._remarked
        lines = ["| " + " | ".join(row) + " |" for row in (titles, *rows)]
        lines = [f"**{self.title}**", "", lines[0], f"|{rule}", *lines[1:], ""]
        return "\n".join([*lines, *(f"{n}. {note}" for n, note in enumerate(notes, start=1))]) + "\n"

    def latex(self) -> str:
        """A tabular with booktabs rules, in a table that has the notes below it."""
        titles, rows, notes = self._filled(_LATEX)
        body, before = [], None
        for row, texts in zip(self.rows, rows, strict=True):
            if before not in (None, row.heads[0]) and row.heads[0]:
                body.append("\\midrule")
            before = row.heads[0] or before
            body.append(" & ".join(texts) + " \\\\")
        lines = [
            "% needs \\usepackage{booktabs}",
            "\\begin{table*}\\centering\\small",
            f"\\caption{{{_tex(self.title)}}}",
            f"\\begin{{tabular}}{{{'l' * len(self.heads)}{'r' * len(self.columns)}{'l' * self._remarked}}}",
            "\\toprule",
            " & ".join([*map(_tex, titles), *[""] * self._remarked]) + " \\\\",
            "\\midrule",
            *body,
            "\\bottomrule",
            "\\end{tabular}",
            *(f"\\par\\footnotesize {n}. {_tex(note)}" for n, note in enumerate(notes, start=1)),
            "\\end{table*}",
        ]
        return "\n".join(lines) + "\n"

    def _filled(self, form: _Form) -> tuple[list[str], list[list[str]], list[str]]:
        """Titles of the columns, the texts of each row, and all notes, to which reasons and remarks point."""
        titles = [*self.heads, *(column.title + ARROWS[column.better] for column in self.columns)]
        notes, marks = list(self.notes), {}

        def mark(text: str) -> str:
            if not text or text == COMPARABLE:
                return ""
            if text not in marks:
                body = text.removeprefix(NOT_COMPARABLE + ": ")
                if body not in notes:
                    notes.append(body)
                marks[text] = notes.index(body) + 1
            return form.mark.format(marks[text])

        rows = []
        for row in self.rows:
            texts = [form.escape(head) for head in row.heads]
            for column in self.columns:
                cell = row.cells.get(column.key, Cell())
                if cell.value is None:
                    texts.append(form.none + mark(cell.why))
                    continue
                small = row.below(cell)
                place = form.places[self._place(row, column)]
                texts.append(place.format(cell.text) + (form.small.format(small) if small else ""))
            verdict = NOT_COMPARABLE if row.remark.startswith(NOT_COMPARABLE) else row.remark
            rows.append([*texts, *[form.escape(verdict) + mark(row.remark)] * self._remarked])
        return titles, rows, notes

    def csv(self) -> str:
        """A line per row, full precision; each figure with the ends of its interval and its n."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        parts = [f"{c.title}{part}" for c in self.columns for part in ("", " low", " high", " n")]
        writer.writerow([*self.heads, *parts, "beside the paper"])
        heads = [""] * len(self.heads)
        for row in self.rows:
            # A blank repeats what stands above it.
            heads = [new or old for new, old in zip(row.heads, heads, strict=True)]
            values: list[object] = []
            for column in self.columns:
                cell = row.cells.get(column.key, Cell())
                values += ["" if cell.value is None else repr(cell.value), *(cell.interval or ("", ""))]
                values.append("" if cell.n is None else cell.n)
            writer.writerow([*heads, *values, row.remark])
        return buffer.getvalue()

    # ------------------------------------------------------------------------------------- helpers

    @property
    def _remarked(self) -> int:
        """1 where any row has a remark, else 0: then there is no column for them."""
        return int(any(row.remark for row in self.rows))

    def _place(self, row: FigureRow, column: Column) -> int:
        """1 for the best of its group, 2 for the second, 0 otherwise."""
        value = row.cells.get(column.key, Cell()).value
        if value is None or column.better == "neither" or not row.group:
            return 0
        rivals = [r.cells.get(column.key, Cell()).value for r in self.rows if r.group == row.group]
        ranked = sorted({v for v in rivals if v is not None}, reverse=column.better == "higher")
        place = ranked.index(value) + 1
        return place if place <= 2 and len(ranked) > 1 else 0


COMPARABLE, NOT_COMPARABLE = "comparable", "not comparable"


_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
    "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "↓": r"$\downarrow$",
    "↑": r"$\uparrow$", "–": "--", "×": r"$\times$", "✓": r"\checkmark{}", "…": r"\ldots{}", "η": r"$\eta$",
    "Υ": r"$\Upsilon$",
}  # fmt: skip


def _tex(text: str) -> str:
    return "".join(_TEX.get(letter, letter) for letter in text)


@dataclass(frozen=True)
class _Form:
    """How a format writes figures: plain, best, second; small print; pointers to notes; a gap."""

    places: tuple[str, str, str]
    small: str
    mark: str
    none: str
    escape: Callable[[str], str]


_MARKDOWN = _Form(("{}", "**{}**", "<u>{}</u>"), " <sub>{}</sub>", "<sup>{}</sup>", "–", str)
_LATEX = _Form(("{}", "\\textbf{{{}}}", "\\underline{{{}}}"), " {{\\tiny {}}}", "$^{{{}}}$", "--", _tex)
