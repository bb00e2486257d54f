"""`pat gallery sync`: send a gallery to the cluster once, where no service does it all the time."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

from deploy.cluster.settings import ClusterSettings
from deploy.gallery.backup import folder_of
from deploy.gallery.database import Database
from deploy.gallery.entries import checked_name
from pat.base.errors import UserError
from pat.base.progress import Progress
from pat.commands.gallery.tools import OnGallery, moment, opened, print_table


@dataclass(frozen=True)
class SyncOnce(OnGallery):
    """Send what changed in a gallery to a Qdrant server or cluster, and delete what other sites have forgotten.

    `pat serve --cluster.url ...` does this all the time. Needs `pip install 'pat-reid[cluster]'`.
    """

    cluster: ClusterSettings = field(default_factory=ClusterSettings)

    def run(self, progress: Progress) -> None:
        if not (self.cluster.url and self.cluster.site):
            raise UserError("give --cluster.url and --cluster.site")
        try:
            from deploy.cluster.client import connect
            from deploy.cluster.cluster import Cluster
            from deploy.cluster.sync import Sync, alone, node_of
        except ModuleNotFoundError as error:  # httpx, which the other subcommands do without
            raise UserError(f"{error.name} is not installed: pip install 'pat-reid[cluster]'") from error

        site = checked_name("site", self.cluster.site)
        with (
            opened(self.gallery) as gallery,
            Database(folder_of(self.gallery)) as database,
            contextlib.closing(connect(self.cluster)) as client,
            alone(database),
        ):
            cluster = Cluster(client, gallery.facts, node=node_of(database), site=site, where=self.cluster.url)
            sync = Sync(gallery, database, cluster)
            sync.round()
        progress.say(f"sent {sync.sent} entries, deleted {sync.obeyed} that others had forgotten")
        rows = [
            [each.site, str(each.entries), moment(each.seen), str(each.unacknowledged), each.model]
            for each in sync.sites
        ]
        print_table(["site", "entries", "last there", "still to forget", "model"], rows)
