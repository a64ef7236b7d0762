"""Test-only stand-in for the parameter node wrapper: scalars and MRML node references, linked to widgets.

Like the genuine one it accepts exactly the listed widget classes, needs a range for sliders and a `Choice` for combo boxes,
and matches a parameter to a widget by the widget's property `SlicerParameterName`.
"""

import typing
from dataclasses import dataclass

import ctk
import qt
import slicer
import vtk


@dataclass
class WithinRange:
    minimum: float
    maximum: float


@dataclass
class Minimum:
    minimum: float


@dataclass
class Choice:
    choices: list


@dataclass
class Decimals:
    value: int


@dataclass
class SingleStep:
    value: float


def _annotated(hint):
    if typing.get_origin(hint) is typing.Annotated:
        kind, *annotations = typing.get_args(hint)
        return kind, annotations
    return hint, []


def _node_types(kind):
    """The classes of a node type or of a Union of them, which the genuine wrapper wants to hold None."""
    types = typing.get_args(kind)
    if types and type(None) not in types:
        raise TypeError(f"{kind} must allow None")
    return tuple(one for one in types if one is not type(None)) or (kind,)


def _is_node(kind):
    return all(issubclass(one, vtk.vtkObject) for one in _node_types(kind))


def _validate(value, kind, annotations):
    if _is_node(kind):
        if value is not None and not isinstance(value, _node_types(kind)):
            raise TypeError(f"{value!r} is not a {kind}")
        return
    if not isinstance(value, (int, float) if kind is float else kind):
        raise TypeError(f"{value!r} is not a {kind.__name__}")
    for annotation in annotations:
        if isinstance(annotation, WithinRange) and not annotation.minimum <= value <= annotation.maximum:
            raise ValueError(f"{value} is outside {annotation}")
        if isinstance(annotation, Minimum) and value < annotation.minimum:
            raise ValueError(f"{value} is below {annotation}")
        if isinstance(annotation, Choice) and value not in annotation.choices:
            raise ValueError(f"{value} is none of {annotation}")


def _property(name, kind, annotations, default):
    def read(self):
        node = self.parameterNode
        if _is_node(kind):
            return node.GetNodeReference(name)
        text = node.GetParameter(name) if node.HasParameter(name) else ""
        if not text and kind is not str:
            return default
        return text == "True" if kind is bool else kind(text)

    def write(self, value):
        _validate(value, kind, annotations)
        if _is_node(kind):
            self.parameterNode.SetNodeReferenceID(name, value.GetID() if value else None)
        else:
            self.parameterNode.SetParameter(name, str(value))

    return property(read, write)


def _accessors(widget, kind, annotations):
    """(read, write, signal) of a widget for a type, after its range is set."""
    bounds = next((a for a in annotations if isinstance(a, WithinRange)), None)
    if kind is bool and type(widget) in (qt.QCheckBox, ctk.ctkCheckBox, qt.QPushButton):
        return (lambda: widget.checked), (lambda v: setattr(widget, "checked", v)), widget.toggled
    if kind in (int, float) and type(widget) in (qt.QSpinBox, qt.QSlider, qt.QDoubleSpinBox, ctk.ctkSliderWidget):
        if bounds is None and type(widget) in (qt.QSlider, ctk.ctkSliderWidget):
            raise RuntimeError(f"{widget.name}: a slider needs a WithinRange annotation")
        for annotation in annotations:
            if isinstance(annotation, Decimals):
                widget.decimals = annotation.value
            elif isinstance(annotation, SingleStep):
                widget.singleStep = annotation.value
        if bounds:
            widget.setRange(kind(bounds.minimum), kind(bounds.maximum))
        return (lambda: widget.value), (lambda v: setattr(widget, "value", v)), widget.valueChanged
    if kind is str and type(widget) is qt.QLineEdit:
        return (lambda: widget.text), (lambda v: setattr(widget, "text", v)), widget.textChanged
    if kind is str and type(widget) is qt.QComboBox:
        choices = next(a for a in annotations if isinstance(a, Choice)).choices
        widget.clear()
        widget.addItems(choices)
        write = lambda v: setattr(widget, "currentIndex", choices.index(v))  # noqa: E731
        return (lambda: choices[widget.currentIndex]), write, widget.currentIndexChanged
    if _is_node(kind) and type(widget) is slicer.qMRMLNodeComboBox:
        widget.nodeTypes = [one.__name__ for one in _node_types(kind)]
        return widget.currentNode, widget.setCurrentNode, widget.currentNodeChanged
    raise RuntimeError(f"{widget.name}: no connector from {kind} to {type(widget)}")


def _connect_gui(self, ui):
    """Returns nothing, like that of Slicer before 5.13: what it connected cannot be disconnected."""
    named = {widget.property("SlicerParameterName"): widget for widget in vars(ui).values()}
    _connect_parameters_to_gui(self, {name: widget for name, widget in named.items() if name})


def _connect_parameters_to_gui(self, widgets):
    links = []
    for name, widget in widgets.items():
        if name not in self.allParameters:
            raise ValueError(f"{widget.name}: there is no parameter {name}")
        links.append((name, *_accessors(widget, *self.allParameters[name])))
    updating = []

    def to_widgets(*_):
        if not updating:
            updating.append(True)
            try:
                for name, _read, write, _signal in links:
                    write(getattr(self, name))
            finally:
                updating.clear()

    def to_node(name, read):
        def changed(*_):
            if not updating:
                setattr(self, name, read())

        return changed

    to_widgets()
    slots = [(signal, to_node(name, read)) for name, read, _write, signal in links]
    for signal, slot in slots:
        signal.connect(slot)
    tag = len(self._links)
    self._links[tag] = (slots, self.parameterNode.AddObserver(vtk.vtkCommand.ModifiedEvent, to_widgets))
    return tag


def _disconnect_gui(self, tag):
    if tag not in self._links:
        return
    slots, observer = self._links.pop(tag)
    self.parameterNode.RemoveObserver(observer)
    for signal, slot in slots:
        signal.disconnect(slot)


def parameterNodeWrapper(cls):
    """Turn a class of annotated defaults into a typed view of a vtkMRMLScriptedModuleNode."""
    cls.allParameters = {}
    for name, hint in typing.get_type_hints(cls, include_extras=True).items():
        kind, annotations = _annotated(hint)
        default = getattr(cls, name, None if _is_node(kind) else kind())
        cls.allParameters[name] = (kind, annotations)
        setattr(cls, name, _property(name, kind, annotations, default))
        cls.__dict__.get("_defaults") or setattr(cls, "_defaults", {})
        cls._defaults[name] = default

    def start(self, node, prefix=None):
        self.parameterNode, self._links = node, {}
        for name, (kind, _) in self.allParameters.items():
            if not _is_node(kind) and not node.HasParameter(name):
                setattr(self, name, self._defaults[name])

    cls.__init__ = start
    cls.connectGui, cls.disconnectGui = _connect_gui, _disconnect_gui
    cls.connectParametersToGui = _connect_parameters_to_gui
    cls.AddObserver = lambda self, event, f, priority=0.0: self.parameterNode.AddObserver(event, f, priority)
    cls.RemoveObserver = lambda self, tag: self.parameterNode.RemoveObserver(tag)
    cls.StartModify = lambda self: self.parameterNode.StartModify()
    cls.EndModify = lambda self, modified: self.parameterNode.EndModify(modified)
    return cls
