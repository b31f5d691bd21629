"""The docstrings of models' attributes as the descriptions of their fields."""

import ast
import inspect
import textwrap

from planapply.model.base import Model


def describe_models() -> None:
    """Set the description of every field of every loaded `Model`, for the reference and JSON Schemas.

    Pydantic can do this when a class is created (`use_attribute_docstrings`), but parsing the
    sources would take a third of the start-up time of `plan`, which shows no descriptions.
    """
    models = list(_subclasses(Model))
    for model in models:
        for name, text in _docstrings(model).items():
            if name in model.model_fields:
                model.model_fields[name].description = text
    for model in models:  # in order of definition: a model comes after the models of its fields
        model.model_rebuild(force=True)


def _subclasses(model: type[Model]) -> list[type[Model]]:
    found = []
    for child in model.__subclasses__():
        found += [child, *_subclasses(child)]
    return found


def _docstrings(model: type[Model]) -> dict[str, str]:
    """Return the docstrings of a class's attributes, including those of its base classes."""
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
