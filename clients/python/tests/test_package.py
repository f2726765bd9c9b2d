import ast
import pathlib
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent


class Package(unittest.TestCase):
    def test_the_syntax_is_that_of_python_3_8(self):
        files = sorted(path for folder in ("tapedeck", "examples", "tests") for path in (ROOT / folder).rglob("*.py"))
        self.assertGreater(len(files), 20)
        for path in files:
            ast.parse(path.read_text(encoding="utf-8"), str(path), feature_version=(3, 8))

    def test_every_exported_name_exists(self):
        import tapedeck
        import tapedeck.compat

        for module in (tapedeck, tapedeck.compat):
            for name in module.__all__:
                self.assertTrue(hasattr(module, name), name)

    def test_it_says_that_it_is_typed(self):
        self.assertTrue((ROOT / "tapedeck" / "py.typed").exists())

    def test_there_are_eight_examples_and_each_says_what_it_shows(self):
        examples = sorted((ROOT / "examples").glob("*.py"))
        self.assertGreaterEqual(len(examples), 8)
        for path in examples:
            self.assertTrue(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path.name)


if __name__ == "__main__":
    unittest.main()
