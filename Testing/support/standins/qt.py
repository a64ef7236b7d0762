"""Test-only approximation of PythonQt's `qt` module on PySide6.

PythonQt offers every Qt property as an attribute (`button.text`) beside its setter (`button.setText`), connects by
signature (`button.connect("clicked()", f)`) and returns plain strings from file dialogs. PySide6 does none of that, so each
class is subclassed here with descriptors for its properties and with PythonQt's `connect`.
"""

import ctypes
import inspect
import re
import sys
import xml.etree.ElementTree as ElementTree

from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets

_module = sys.modules[__name__]
if sys.version_info < (3, 12):
    # PySide6 6.12 takes None, True and False for immortal, as they are from Python 3.12 on, and drops a reference too many
    # whenever it returns them; after some thousand calls older Pythons abort. A large reserve makes them immortal here.
    for _immortal in (None, True, False):
        ctypes.c_ssize_t.from_address(id(_immortal)).value += 1 << 40
_VIRTUAL_GETTERS = {"sizeHint", "minimumSizeHint"}  # Qt calls these; an attribute in their place would break layouts
widget_classes = {}  # class name in a .ui file -> class made here; ctk and mrmlwidgets add theirs

for _source in (QtCore, QtGui, QtWidgets, QtUiTools):
    for _name in dir(_source):
        if _name.startswith("Q"):
            setattr(_module, _name, getattr(_source, _name))


class _Property:
    """An attribute on instances; on the class it stays what Qt had there (static methods such as QTimer.singleShot)."""

    def __init__(self, getter, setter, on_class):
        self.getter, self.setter, self.on_class = getter, setter, on_class

    def __get__(self, instance, owner=None):
        return self.on_class if instance is None else self.getter(instance)

    def __set__(self, instance, value):
        if self.setter is None:
            raise AttributeError("this Qt property is read-only")
        self.setter(instance, value)


def _make_property(cls, name, writable):
    capital = name[0].upper() + name[1:]
    native = cls.__dict__.get(name)
    getter = native if callable(native) else cls.__dict__.get("is" + capital) or cls.__dict__.get("has" + capital)
    setter = getattr(cls, "set" + capital, None)

    def read(self):
        return getter(self) if getter else self.property(name)

    def write(self, value):
        if setter is not None:
            setter(self, value)
        elif not self.setProperty(name, value):
            raise AttributeError(f"{type(self).__name__}.{name} cannot be set to {value!r}")

    inherited = getattr(cls, name, None)
    return _Property(read, write if writable else None, inherited)


def _overlay_properties(cls):
    meta = getattr(cls, "staticMetaObject", None)
    if meta is None:
        return
    for index in range(meta.propertyOffset(), meta.propertyCount()):
        prop = meta.property(index)
        name = prop.name() if isinstance(prop.name(), str) else prop.name().decode()
        if name not in _VIRTUAL_GETTERS:
            setattr(cls, name, _make_property(cls, name, prop.isWritable()))


def _all_qobjects():
    found = {c for s in (QtCore, QtGui, QtWidgets) for c in vars(s).values() if inspect.isclass(c)}
    return sorted((c for c in found if issubclass(c, QtCore.QObject)), key=lambda c: (len(c.__mro__), c.__name__))


def _signal(instance, signature):
    match = re.fullmatch(r"(\w+)\((.*)\)", signature.replace(" ", ""))
    if not match:
        raise ValueError(f"'{signature}' is not a signal signature")
    signal = getattr(instance, match.group(1), None)
    if signal is None or not hasattr(signal, "emit"):
        raise ValueError(f"{type(instance).__name__} has no signal {signature}")
    return signal, match.group(2)


def _connect(self, signature, slot):
    """PythonQt's connect: a signature without arguments calls the slot without arguments."""
    signal, arguments = _signal(self, signature)
    target = slot if arguments else lambda *_: slot()
    self.__dict__.setdefault("_targets", {})[signature, slot] = target
    signal.connect(target)
    return True


def _disconnect(self, signature, slot):
    signal, _ = _signal(self, signature)
    signal.disconnect(self.__dict__.get("_targets", {}).pop((signature, slot), slot))
    return True


QObject.name = property(lambda s: s.objectName, lambda s, v: s.setObjectName(v))  # noqa: F821
QObject.className = lambda self: self.metaObject().className()  # noqa: F821
for _class in _all_qobjects():
    _overlay_properties(_class)
for _class in _all_qobjects():
    if getattr(_module, _class.__name__, None) is _class and "Application" not in _class.__name__:
        try:
            _subclass = type(_class.__name__, (_class,), {"connect": _connect, "disconnect": _disconnect})
        except TypeError:  # a final or non-constructible class stays as it is
            continue
        setattr(_module, _class.__name__, _subclass)
        if issubclass(_class, QtWidgets.QWidget):
            widget_classes[_class.__name__] = _subclass


def register(cls):
    """Make a widget class written in Python loadable from .ui files, with PythonQt's connect."""
    cls.connect, cls.disconnect = _connect, _disconnect  # PySide finds its own first in Python subclasses
    widget_classes[cls.__name__] = cls


class QFileDialog(QtWidgets.QFileDialog):
    """File dialogs whose static functions return a string, as in PythonQt."""

    @staticmethod
    def getOpenFileName(*arguments):
        return QtWidgets.QFileDialog.getOpenFileName(*arguments)[0]

    @staticmethod
    def getOpenFileNames(*arguments):
        return QtWidgets.QFileDialog.getOpenFileNames(*arguments)[0]

    @staticmethod
    def getSaveFileName(*arguments):
        return QtWidgets.QFileDialog.getSaveFileName(*arguments)[0]


class QUiLoader(QtUiTools.QUiLoader):
    """Loads a .ui file with the classes above and wires only the scene connections that the file itself declares."""

    def createWidget(self, class_name, parent=None, name=""):
        if class_name in widget_classes:
            widget = widget_classes[class_name](parent)
            widget.setObjectName(name)
            return widget
        if class_name not in self.availableWidgets():
            raise RuntimeError(f"'{name}': no stand-in and no Qt class is called {class_name}")
        return super().createWidget(class_name, parent, name)

    def load(self, file):
        root = ElementTree.fromstring(bytes(file.readAll().data()))
        section = root.find("connections")
        scene_connections = []
        for connection in list(section if section is not None else ()):
            if "vtkMRML" in connection.findtext("signal"):  # PySide cannot connect signals by a vtk type
                scene_connections.append(connection)
                section.remove(connection)
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(root))
        buffer.open(QtCore.QIODevice.ReadOnly)
        widget = super().load(buffer)
        by_name = {child.objectName: child for child in [widget, *widget.findChildren(QtCore.QObject)]}
        for connection in scene_connections:
            sender, receiver = by_name[connection.findtext("sender")], by_name[connection.findtext("receiver")]
            slot = getattr(receiver, connection.findtext("slot").split("(")[0])
            getattr(sender, connection.findtext("signal").split("(")[0]).connect(slot)
        return widget
