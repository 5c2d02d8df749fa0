"""A study of one's own on a Ray cluster of this machine: the same numbers, from workers that import the file."""

import pytest

from commands import finished, tables, theodolite

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own: open sockets and files


@pytest.mark.thorough
def test_ray_gives_the_records_and_tables_of_local_workers(write, run, tmp_path):
    (tmp_path / "near.py").write_text("def twice(x):\n    return 2 * x\n")
    path = write("""
        import numpy as np
        from near import twice

        @study.run(a=[1, 2])
        def go(seed, a):
            return {"x": twice(a) + np.random.rand()}

        study.claim("c", "Is so.", value="metrics.x", compare={"a": (2, 1)}, above=0)
    """)
    assert run(path).returncode == 0
    done = theodolite("run", str(path), "--engine", "ray", "--jobs", "1", "--out", str(tmp_path / "ray"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(finished(tmp_path / "ray")) == set(finished(tmp_path / "r"))
    assert tables(tmp_path / "ray") == tables(tmp_path / "r")
