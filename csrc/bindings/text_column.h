// A column of texts from Python as views: Arrow string arrays without a copy, or any sequence of str and None.
#pragma once

#include <nanobind/nanobind.h>

#include <string_view>
#include <vector>

namespace xfast::bindings {

// Views stay valid as long as the object lives and the GIL need not be held to read them. A null text is a view
// without data.
class TextColumn {
 public:
  // Raises ParameterError naming `argument` when `source` is neither of the two.
  TextColumn(nanobind::handle source, const char* argument);
  ~TextColumn();
  TextColumn(const TextColumn&) = delete;
  TextColumn& operator=(const TextColumn&) = delete;

  std::size_t size() const { return views_.size(); }
  const std::string_view* begin() const { return views_.data(); }
  const std::string_view* end() const { return views_.data() + views_.size(); }
  const std::vector<std::string_view>& views() const { return views_; }

 private:
  struct Arrow;
  void read_sequence(nanobind::handle source, const char* argument);

  std::vector<std::string_view> views_;
  nanobind::object keep_;  // the tuple of strings or the Arrow capsule
  std::vector<nanobind::object> encoded_;
  Arrow* arrow_ = nullptr;
};

}  // namespace xfast::bindings
