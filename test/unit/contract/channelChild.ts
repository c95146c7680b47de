import { createHostServer, parentProcessPort } from "../../../host/channel.ts";
import { requests, runs } from "./channelHandlers.ts";

createHostServer(requests, runs, { onCloseAsked: () => process.exit(0) }).serve(
  parentProcessPort(),
);
process.on("disconnect", () => process.exit(0));
