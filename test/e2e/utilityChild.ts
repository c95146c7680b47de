// A host with foreseeable replies in Electron's utility process: its end of the ports is the real one.
import { createHostServer } from "../../host/channel.ts";
import { hostEnd } from "../../host/hostEnd.ts";
import { requests, runs } from "../unit/contract/channelHandlers.ts";

const end = hostEnd();
const server = createHostServer(requests, runs, { onCloseAsked: () => process.exit(0) });
server.serve(end.main);
end.onWindow((window) => server.serve(window, { isWindow: true }));
