"""Test-only approximations of the CTK widgets that the panel uses."""

import qt
from PySide6.QtCore import Property, Signal


def stored_property(name, kind, default=None, signal=None):
    """A Qt property kept in the instance; calls `_on_NAME` and emits `signal` when it changes."""

    def read(self):
        return self.__dict__.get("_stored_" + name, default)

    def write(self, value):
        if read(self) == value:
            return
        self.__dict__["_stored_" + name] = value
        getattr(self, "_on_" + name, lambda _: None)(value)
        if signal:
            getattr(self, signal).emit(value)

    return Property(kind, read, write)


class ctkCollapsibleButton(qt.QGroupBox):
    """A titled box whose contents hide when `collapsed`."""

    contentsCollapsed = Signal(bool)

    def _set_collapsed(self, value):
        self.__dict__["_collapsed"] = bool(value)
        self._apply()
        self.contentsCollapsed.emit(bool(value))

    def _apply(self):
        """Hide what is shown, or show again what was hidden so: what the panel hid itself stays hidden."""
        hidden = self.__dict__.setdefault("_hidden", [])
        if self.collapsed:
            children = [c for c in self.findChildren(qt.QtWidgets.QWidget) if c.parentWidget() is self]
            hidden += [child for child in children if not child.isHidden()]
        for child in hidden:
            child.setVisible(not self.collapsed)
        if not self.collapsed:
            hidden.clear()

    def showEvent(self, event):
        super().showEvent(event)
        if self.collapsed:
            self._apply()

    text = Property(str, lambda s: s.title, lambda s, v: s.setTitle(v))
    collapsed = Property(bool, lambda s: s.__dict__.get("_collapsed", False), _set_collapsed)


class ctkSliderWidget(qt.QWidget):
    """A slider with a spin box; `tracking` tells whether `valueChanged` follows the drag."""

    valueChanged = Signal(float)
    valueIsChanging = Signal(float)
    tracking = stored_property("tracking", bool, True)
    pageStep = stored_property("pageStep", float, 1.0)

    def __init__(self, *arguments):
        super().__init__(*arguments)
        layout = qt.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._slider, self._box = qt.QSlider(qt.Qt.Horizontal), qt.QDoubleSpinBox()
        self._slider.setRange(0, 1000)
        self._box.setRange(0, 99)
        layout.addWidget(self._slider)
        layout.addWidget(self._box)
        self._box.valueChanged.connect(self._changed)
        self._slider.sliderMoved.connect(self._moved)
        self._slider.sliderReleased.connect(self._released)

    def _changed(self, value):
        span = self._box.maximum - self._box.minimum
        self._slider.setValue(round(1000 * (value - self._box.minimum) / span) if span else 0)
        self.valueChanged.emit(value)

    def _moved(self, position):
        value = self._box.minimum + position / 1000 * (self._box.maximum - self._box.minimum)
        if self.tracking:
            self._box.setValue(value)
        else:
            self.valueIsChanging.emit(value)

    def _released(self):
        span = self._box.maximum - self._box.minimum
        if not self.tracking:
            self._box.setValue(self._box.minimum + self._slider.value / 1000 * span)

    def setValue(self, value):
        self._box.setValue(value)

    def setRange(self, minimum, maximum):
        self._box.setRange(minimum, maximum)

    def setMinimum(self, value):
        self._box.setMinimum(value)

    def setMaximum(self, value):
        self._box.setMaximum(value)

    value = Property(float, lambda s: s._box.value, lambda s, v: s._box.setValue(v))
    minimum = Property(float, lambda s: s._box.minimum, lambda s, v: s._box.setMinimum(v))
    maximum = Property(float, lambda s: s._box.maximum, lambda s, v: s._box.setMaximum(v))
    decimals = Property(int, lambda s: s._box.decimals, lambda s, v: s._box.setDecimals(v))
    singleStep = Property(float, lambda s: s._box.singleStep, lambda s, v: s._box.setSingleStep(v))
    suffix = Property(str, lambda s: s._box.suffix, lambda s, v: s._box.setSuffix(v))


class ctkPathLineEdit(qt.QWidget):
    """A line edit for a path."""

    Files, Dirs, Writable, Readable = 1, 2, 4, 8
    currentPathChanged = Signal(str)
    filters = stored_property("filters", int, 1)
    settingKey = stored_property("settingKey", str, "")

    def __init__(self, *arguments):
        super().__init__(*arguments)
        layout = qt.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._edit = qt.QLineEdit()
        layout.addWidget(self._edit)
        self._edit.textChanged.connect(self.currentPathChanged)

    currentPath = Property(str, lambda s: s._edit.text, lambda s, v: s._edit.setText(v))


class ctkCheckBox(qt.QCheckBox):
    pass


# Slicer's genuine parameter node wrapper names these classes; the panel uses none of them.
for _name in ("CheckablePushButton", "ColorPickerButton", "ComboBox", "DirectoryButton", "DoubleRangeSlider", "DoubleSlider",
              "DoubleSpinBox", "RangeSlider", "RangeWidget"):  # fmt: skip
    globals()["ctk" + _name] = type("ctk" + _name, (qt.QWidget,), {})

for _class in list(vars().values()):
    if isinstance(_class, type) and issubclass(_class, qt.QtWidgets.QWidget):
        qt.register(_class)
