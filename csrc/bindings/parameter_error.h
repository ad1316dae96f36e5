// Raise xfast.errors.ParameterError from a binding.
#pragma once

#include <nanobind/nanobind.h>

#include <string>

namespace xfast::bindings {

[[noreturn]] inline void raise_parameter_error(const std::string& message) {
  const nanobind::object type = nanobind::module_::import_("xfast.errors").attr("ParameterError");
  PyErr_SetString(type.ptr(), message.c_str());
  throw nanobind::python_error();
}

}  // namespace xfast::bindings
