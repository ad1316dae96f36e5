// Snapshots on disk: a file appears whole or not at all.
#pragma once

#include <string>

namespace xfast::thunder {

// Write `content` beside `path`, flush it to the disk, then rename it into place and flush the folder.
// Throws std::system_error.
void write_atomically(const std::string& path, const std::string& content);

// Throws std::system_error.
std::string read_whole(const std::string& path);

}  // namespace xfast::thunder
