// Everything of the event log's code that reads bytes from outside.
#include <cstdlib>
#include <vector>

#include "eventlog/frames.h"
#include "eventlog/in_network.h"
#include "eventlog/service_messages.h"
#include "fuzz.h"

using namespace xfast;
using namespace xfast::eventlog;

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const std::uint8_t nothing = 0;
  const wire::Slice one[] = {{size == 0 ? &nothing : data, size}};
  InNetworkColumns compact, network;
  decode_in_network(one, compact);
  require(compact.post_id.size() + compact.deleted_id.size() + compact.account_id.size() + compact.bad_index.size() +
              static_cast<std::size_t>(compact.unknown) ==
          1);
  const Encoded encoded = encode_in_network(compact);
  require(encoded.offsets.back() == static_cast<std::int64_t>(encoded.bytes.size()));
  decode_network(one, {10'000, 1'700'000'000, 600, false}, network);
  require(network.post_id.size() + network.deleted_id.size() + network.account_id.size() + network.bad_index.size() +
              static_cast<std::size_t>(network.unknown + network.other + network.nullcast + network.late_deletes) ==
          1);
  const std::uint64_t users[] = {0, 1, 2};
  concerns_users(one, users);
  Request request;
  if (decode_request(one[0], request) == wire::Fault::none) {
    Request again;
    const auto bytes = encode_request(request);
    static const std::uint8_t empty = 0;
    require(decode_request({bytes.empty() ? &empty : bytes.data(), bytes.size()}, again) == wire::Fault::none);
    require(again.following == request.following && again.excluded == request.excluded);
  }
  PostVectors posts;
  decode_response(one[0], posts);
  const Frames frames = scan(data, size, 1000, 1 << 20);
  require(frames.used <= size);
  require(find_record(data, size, 0, 0, 1 << 20) <= size);
  return 0;
}
