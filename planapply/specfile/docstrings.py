"""The docstrings of models' attributes, as the descriptions of their fields."""

import ast
import inspect
import textwrap

from planapply.model.base import Model


def describe_models() -> None:
    """Give every field of every loaded `Model` its docstring, for the reference and JSON Schemas.

    Pydantic can do this when a class is made (`use_attribute_docstrings`), by parsing its source
    then: a third of the start-up of a `plan`, which shows none of them.
    """
    models = list(_subclasses(Model))
    for model in models:
        for name, text in _docstrings(model).items():
            if name in model.model_fields:
                model.model_fields[name].description = text
    for model in models:  # a model stands behind those that it is made of
        model.model_rebuild(force=True)


def _subclasses(model: type[Model]) -> list[type[Model]]:
    found = []
    for child in model.__subclasses__():
        found += [child, *_subclasses(child)]
    return found


def _docstrings(model: type[Model]) -> dict[str, str]:
    """Those of the class's own attributes; a base's come with its own source."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if not issubclass(base, Model) or base is Model:
            continue
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(tree, ast.ClassDef)
        for statement, after in zip(tree.body, tree.body[1:], strict=False):
            if (
                isinstance(statement, ast.AnnAssign)
                and isinstance(statement.target, ast.Name)
                and isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
                and isinstance(after.value.value, str)
            ):
                found[statement.target.id] = inspect.cleandoc(after.value.value)
    return found
