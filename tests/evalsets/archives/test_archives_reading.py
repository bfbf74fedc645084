"""What the readers of archives share: lists and tables by line, files and folders, seeded choice."""

import miniatures
import pytest
from test_archives import items, read

from diptych.errors import DataError
from diptych.evalsets.archives.reading import find_file, find_folder, lines, shuffled, table


def test_lines_have_their_numbers_in_the_file_blank_ones_counted(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("\ufeffone\r\n\n  two \n \t\nthree")
    assert list(lines(path)) == [(f"{path}:1", "one"), (f"{path}:3", "two"), (f"{path}:5", "three")]


def test_rows_have_their_lines_in_the_file_blank_ones_counted(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text('\ufeffname, place\r\n\na.jpg,"here, or ""there"""\n,\nb.jpg, \n')
    expected = [({"name": "a.jpg", "place": 'here, or "there"'}, 3), ({"name": "b.jpg", "place": ""}, 5)]
    assert list(table(path, ("place",))) == [(f"{path}:{number}", row) for row, number in expected]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "table.csv has no rows"),
        ("name,place\n", "table.csv has no rows"),
        ("name,plaice\na,b\n", "table.csv:1 has no column place; it has: name, plaice"),
        ("name,place\n\na\n", "table.csv:3 has 1 fields, the header has 2"),
        ("name,place\na,b,c\n", "table.csv:2 has 3 fields, the header has 2"),
        ('name,place\na,"b\n', "table.csv:2 is damaged: unexpected end"),
    ],
)
def test_damaged_tables_between_commas(tmp_path, text, problem):
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=problem):
        list(table(path, ("place",)))


def test_quotes_mean_nothing_between_tabs_and_more_fields_do_no_harm(tmp_path):
    path = tmp_path / "table.txt"
    path.write_text('id\tname\tsize\n1\tthe "blue" tit\n2\t"x\t7\tmore\n')
    rows = [row for _, row in table(path, ("name",), "\t")]
    assert rows == [{"id": "1", "name": 'the "blue" tit'}, {"id": "2", "name": '"x', "size": "7"}]
    with pytest.raises(DataError, match=r"table.txt:2 cannot be parsed: '1\\tthe"):
        list(table(path, ("size",), "\t"))


def test_a_folder_is_no_file_whatever_its_name(tmp_path):
    """Some archives unpack a.csv into a folder of that name."""
    (tmp_path / "a.csv").mkdir()
    (tmp_path / "a.csv" / "a.csv").touch()
    assert find_file(tmp_path, "a.csv", "a.csv/a.csv") == tmp_path / "a.csv" / "a.csv"
    assert find_folder(tmp_path, "a.csv/a.csv", "a.csv") == tmp_path / "a.csv"
    with pytest.raises(DataError, match=r"lacks a.csv or b.csv; unpack"):
        find_file(tmp_path, "a.csv", "b.csv")


def test_names_that_are_not_utf_8_have_their_place_in_the_order():
    assert sorted(shuffled(["caf\udce9.jpg", "b.jpg"])) == ["b.jpg", "caf\udce9.jpg"]


def test_hidden_files_are_no_pictures_of_a_class(tmp_path):
    """macOS leaves a ._name beside each file of an archive that it unpacks on a foreign disk."""
    miniatures.build("EuroSAT", tmp_path)
    expected = [item.key for split in ("train", "test") for item in items(read("EuroSAT", tmp_path, split))]
    for name in expected:
        path = tmp_path / "2750" / name
        path.with_name(f"._{path.name}").touch()
    assert [item.key for split in ("train", "test") for item in items(read("EuroSAT", tmp_path, split))] == expected
